"""Whether a run can compute here: facts, checks of them, and what to do next."""
