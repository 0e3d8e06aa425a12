"""What is kept? Answers, scores, runs and artefacts; nothing above it knows files."""
