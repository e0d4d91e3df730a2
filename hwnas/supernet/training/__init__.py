"""How the shipped models were trained: three stages, one resumable command."""
