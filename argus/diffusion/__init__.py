"""Pipeline families over diffusers' own modules, and samplers as step tables."""
