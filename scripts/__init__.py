"""Commands of a checkout: set-up, tests, sizes, generated documents. Not part of the product."""
