"""What answers? The seam, the answer, and the targets: Python, HTTP, recorded answers, litellm."""
