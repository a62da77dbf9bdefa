"""Where pull requests come from; each source ingests into the truth, again and again."""
