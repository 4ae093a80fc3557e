"""Who is asking: users, login by the OAuth2 password flow, bearer tokens with scopes."""
