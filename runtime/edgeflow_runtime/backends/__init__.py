"""What runs a bundle's graphs: the contract, the CPU, the GPU, and which of them is chosen."""
