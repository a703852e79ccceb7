"""ms-swift as GRPO's second engine: its arguments, its run, and the plug-in with our reward and tool loop."""
