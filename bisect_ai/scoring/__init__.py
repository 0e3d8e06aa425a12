"""How good is it? Scorers read a query and an answer and give a number."""
