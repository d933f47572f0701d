"""VeCAF, reproduced: vision-language collaborative active finetuning (ACM MM 2024)."""

__version__ = "0.1.0"
