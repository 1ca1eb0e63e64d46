"""What people see and are alerted about. These rules decide nothing about writing."""
