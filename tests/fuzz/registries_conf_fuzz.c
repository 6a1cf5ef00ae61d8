#include "spec/registries_conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_arena a = { 0 };
	struct str text = { (const char *)data, size };
	struct registries_conf conf = { 0 };
	struct hosts hosts;
	struct ref ref;
	struct err e;
	char **names;
	bool found;

	if (registries_conf_read(&a, text, &conf, &e) < 0 || registries_conf_names(&a, &conf, "busybox:1", &names, &e) < 0)
		return 0;
	if (ref_parse(&a, "registry.example/team/app:1", &ref, &e) == 0)
		(void)registries_conf_hosts(&a, &conf, &ref, &hosts, &found, &e);
	return 0;
}
