"""Series: whose numbers they are, their running totals, and the values read from them."""
