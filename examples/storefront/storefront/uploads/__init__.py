"""Pictures and documents of products: files on disk, and what is known of them in the database."""
