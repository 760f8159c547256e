"""What tests share: the small world, helpers, and servers. No test lies here, and no test file imports another."""
