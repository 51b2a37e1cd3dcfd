"""What belongs together: by groups that are named, or by what sequences share."""
