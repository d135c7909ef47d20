"""What parts of the project cost, measured on data that the benchmarks make themselves."""
