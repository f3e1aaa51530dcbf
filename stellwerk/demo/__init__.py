"""The demo: drives the product from outside, as a user would, over HTTP and child processes."""
