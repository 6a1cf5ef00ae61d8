#include "test.h"

#include <stdio.h>
#include <stdlib.h>

enum { TESTS_MAX = 1000 };
static struct CMUnitTest tests[TESTS_MAX];
static size_t count;

void test_add(const char *name, void (*fn)(void **))
{
	if (count == TESTS_MAX)
		abort();
	tests[count++] = (struct CMUnitTest){ .name = name, .test_func = fn };
}

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return _cmocka_run_group_tests(argv[0], tests, count, NULL, NULL);
}
