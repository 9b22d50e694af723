"""Linux mechanisms by which a process gives up rights for good: Landlock, seccomp, capabilities, limits, secrecy."""
