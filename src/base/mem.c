#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

void *mem_alloc0(size_t size)
{
	void *p = calloc(1, size ? size : 1);

	if (!p)
		BUG("out of memory");
	return p;
}

char *mem_strdup(const char *s)
{
	size_t size;

	if (!s)
		return NULL;
	size = strlen(s) + 1;
	return memcpy(mem_alloc0(size), s, size);
}

void mem_free(void *p)
{
	free(p);
}
