"""Who needs to know? Facts first (view), then pixels (terminal, Markdown)."""
