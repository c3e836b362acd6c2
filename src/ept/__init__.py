"""EPT: efficient prompt tuning by multi-space projection and prompt fusion, and its comparison methods."""
