"""One benchmark a paper."""
