"""Over very many calls the server's memory, open files, threads and tasks stay what they were."""
