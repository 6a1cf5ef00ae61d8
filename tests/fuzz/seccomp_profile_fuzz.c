#include "pod/seccomp_profile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char *caps[] = { (char *)"CAP_CHOWN", NULL };
	const struct seccomp_target target = { .caps = caps, .kernel_major = 6, .kernel_minor = 1 };
	auto_arena a = { 0 };
	char *text = arena_strndup(&a, (const char *)data, size);
	struct seccomp_profile p;
	struct oci_seccomp out;
	struct err e;

	/* What is taken resolves, but for a version of the kernel that is none. */
	if (seccomp_profile_parse(&a, (struct str){ text, size }, &p, &e) == 0)
		(void)seccomp_profile_resolve(&a, &p, &target, &out, &e);
	return 0;
}
