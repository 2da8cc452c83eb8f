"""Text in: source files to documents, documents to token shards, shards to windows for training."""
