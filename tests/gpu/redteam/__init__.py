"""Device code that cheats, as data: sources, launch plans, and what each must end as."""
