"""Generated from proto/ by `generate`: do not edit."""
