"""One API's calls in the words of another."""
