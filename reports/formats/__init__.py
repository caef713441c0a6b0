"""Markdown, HTML and numbers as text."""
