#include "spec/cdi.h"
#include "spec/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* YAML is what JSON is too. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_arena a = { 0 };
	struct str text = { (const char *)data, size };
	struct cdi_spec spec;
	struct cdi_name name;
	struct json *doc;
	struct err e;

	if (yaml_parse(&a, text, &doc, &e) == 0)
		(void)cdi_spec_read(&a, doc, &spec, &e);
	if (!memchr(data, 0, size))
		(void)cdi_name_parse(arena_strndup(&a, text.p, size), &name, &e);
	return 0;
}
