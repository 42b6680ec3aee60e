"""How accurate every method is on every world with known truth, beside the best there can be."""
