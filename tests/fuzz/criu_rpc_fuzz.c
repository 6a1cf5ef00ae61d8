#include "wire/criu_rpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_arena a = { 0 };
	struct criu_response r;
	struct err e;

	if (criu_response_read(&a, (struct str){ (const char *)data, size }, &r, &e) == 0 && (!r.script || !r.message))
		__builtin_trap();
	return 0;
}
