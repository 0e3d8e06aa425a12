"""What comes back? The target seam, the litellm pipeline, the engine and the store."""
