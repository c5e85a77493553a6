"""For all unit tests."""

from __future__ import annotations

from ansible.plugins.loader import init_plugin_loader

# Before anything of the collection is imported: plugins that are loaded as Ansible does need its loader.
init_plugin_loader()
