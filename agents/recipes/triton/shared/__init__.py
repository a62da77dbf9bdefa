"""Parts that the recipes of several families include."""
