"""What tfslim survives: kills, damaged and hostile files, full disks, crowds."""
