"""What people see and are alerted of: rules that decide nothing about writing."""
