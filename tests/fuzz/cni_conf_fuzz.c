#include "spec/cni_conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is printed for a plugin is taken again, and says the same. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_arena a = { 0 };
	struct str text = { arena_strndup(&a, (const char *)data, size), size };
	struct cni_conf c, again;
	struct err e;

	if (size > CNI_CONF_MAX || cni_conf_parse(&a, text, &c, &e) < 0)
		return 0;
	for (size_t i = 0; i < c.nplugins; i++) {
		auto_buf b = BUF(8 * CNI_CONF_MAX);

		if (cni_conf_print(&b, &c, i, c.doc, c.doc, &e) < 0)
			continue; /* too long */
		if (json_get(c.plugins[i].doc, "plugins"))
			continue; /* a plugin with a list of its own reads as a list */
		if (json_get(c.plugins[i].doc, "cniVersions"))
			continue;
		BUG_ON(cni_conf_parse(&a, (struct str){ arena_strndup(&a, b.p, b.len), b.len }, &again, &e) < 0);
		BUG_ON(!streq(again.name, c.name) || !streq(again.version, c.version) ||
		       !streq(again.plugins[0].type, c.plugins[i].type));
	}
	return 0;
}
