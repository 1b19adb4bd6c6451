"""Prompts: words that are listed, however they are disguised, and what Llama Guard says."""
