"""From files to networks: read headers, tell parts apart, bring every layout to one, open."""
