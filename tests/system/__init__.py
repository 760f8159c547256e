"""System tests: kills, runners, Cloud Storage, several processes, the demo, the images, the documents."""
