/* A unit test is named after a promise: `TEST(ref_without_tag_means_latest) { … }`. It registers
 * itself; test.c has main(). cmocka's assertions are at hand, and a few of ours. */
#ifndef KNARR_TESTS_TEST_H
#define KNARR_TESTS_TEST_H

#include "base/err.h"
#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

void test_add(const char *name, void (*fn)(void **));

#define TEST(name)                                                          \
	static void name(void **);                                          \
	__attribute__((constructor)) static void name##_register(void)      \
	{                                                                   \
		test_add(#name, name);                                      \
	}                                                                   \
	static void name(UNUSED void **state)

/* The call succeeds; otherwise the test fails with the error's text. */
#define assert_ok(expr, e)                                                  \
	do {                                                                \
		if ((expr) < 0)                                             \
			fail_msg("%s: %s", #expr, (e).msg);                 \
	} while (0)

/* The call fails with this kind, and its message contains the text. */
#define assert_err(expr, e, want_kind, text)                                \
	do {                                                                \
		assert_int_equal((expr), -1);                               \
		if ((e).kind != (want_kind) || !strstr((e).msg, (text)))    \
			fail_msg("%s: got \"%s\" (%s), wanted \"%s\" (%s)", #expr, (e).msg, \
				 err_kind_name((e).kind), (text), err_kind_name(want_kind)); \
	} while (0)

#endif
