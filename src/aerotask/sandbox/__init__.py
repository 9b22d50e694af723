"""Child processes for users' files: forked from a clean process, limited, confined, replaced when they die."""
