"""LightningDataModules over WebDataset shards, and the converters that write them."""
