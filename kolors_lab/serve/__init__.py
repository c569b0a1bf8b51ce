"""Drawing for others: over HTTP for clients of the web UI and of ComfyUI, and in a page for a friend."""
