"""The playground: a page where a person tries the model. `page/` is ours, `vendor/` is what `make vendor` wrote."""
