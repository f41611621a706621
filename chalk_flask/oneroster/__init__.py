"""What the OneRoster 1.1 standard says, free of HTTP and storage engines: resources, vocabularies, filters, CSV."""
