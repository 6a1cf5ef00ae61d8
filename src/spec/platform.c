#include "spec/platform.h"

#include "base/str.h"

#include <stdio.h>

#if defined(__x86_64__)
#define HOST_ARCH "amd64"
#define HOST_VARIANT NULL
#elif defined(__aarch64__)
#define HOST_ARCH "arm64"
#define HOST_VARIANT "v8"
#elif defined(__arm__)
#define HOST_ARCH "arm"
#if __ARM_ARCH >= 8
#define HOST_VARIANT "v8"
#elif __ARM_ARCH == 7
#define HOST_VARIANT "v7"
#elif __ARM_ARCH == 6
#define HOST_VARIANT "v6"
#else
#define HOST_VARIANT "v5"
#endif
#elif defined(__i386__)
#define HOST_ARCH "386"
#define HOST_VARIANT NULL
#elif defined(__riscv) && __riscv_xlen == 64
#define HOST_ARCH "riscv64"
#define HOST_VARIANT NULL
#elif defined(__powerpc64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define HOST_ARCH "ppc64le"
#define HOST_VARIANT NULL
#elif defined(__s390x__)
#define HOST_ARCH "s390x"
#define HOST_VARIANT NULL
#elif defined(__loongarch64)
#define HOST_ARCH "loong64"
#define HOST_VARIANT NULL
#else
#error "which GOARCH is this machine's?"
#endif

/* The highest level of x86-64 (v1 to v4) that this processor has. */
static const char *host_variant(void)
{
#if defined(__x86_64__)
	__builtin_cpu_init();
#if defined(__clang__)
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
	    __builtin_cpu_supports("avx512vl"))
		return "v4";
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
	    __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma"))
		return "v3";
	if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt"))
		return "v2";
#else
	if (__builtin_cpu_supports("x86-64-v4"))
		return "v4";
	if (__builtin_cpu_supports("x86-64-v3"))
		return "v3";
	if (__builtin_cpu_supports("x86-64-v2"))
		return "v2";
#endif
	return "v1";
#else
	return HOST_VARIANT;
#endif
}

const struct platform *platform_host(void)
{
	static struct platform host = { .os = (char *)"linux", .architecture = (char *)HOST_ARCH };

	/* Every thread stores the same. */
	host.variant = (char *)host_variant();
	return &host;
}

struct alias {
	const char *name, *architecture, *variant;
};

static const struct alias aliases[] = {
	{ "x86_64", "amd64", NULL }, { "x86-64", "amd64", NULL }, { "i386", "386", NULL },
	{ "i486", "386", NULL },     { "i586", "386", NULL },	  { "i686", "386", NULL },
	{ "aarch64", "arm64", "v8" }, { "armhf", "arm", "v7" },	  { "armel", "arm", "v6" },
	{ "armv7l", "arm", "v7" },   { "armv6l", "arm", "v6" },
};

struct normal {
	const char *os, *architecture;
	int level; /* of the variant: "v7" is 7; 0: not said */
	bool known; /* the variant is none or "vN" */
};

static int default_level(const char *architecture)
{
	if (streq(architecture, "arm64"))
		return 8;
	if (streq(architecture, "arm"))
		return 7;
	if (streq(architecture, "amd64"))
		return 1;
	return 0;
}

static struct normal normalize(const struct platform *p)
{
	struct normal n = { str_is_empty(p->os) ? "linux" : p->os,
			    str_is_empty(p->architecture) ? "" : p->architecture, 0, true };
	const char *variant = p->variant;
	uint64_t level;
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(aliases); i++) {
		if (!streq(n.architecture, aliases[i].name))
			continue;
		n.architecture = aliases[i].architecture;
		if (str_is_empty(variant))
			variant = aliases[i].variant;
		break;
	}
	n.level = default_level(n.architecture);
	if (str_is_empty(variant))
		return n;
	if (*variant == 'v')
		variant++;
	n.known = str_to_u64(str_of(variant), &level, &e) == 0 && level > 0 && level < 100;
	if (n.known)
		n.level = (int)level;
	return n;
}

enum { MATCH_ANY = 1, MATCH_OTHER_ARCH = 100, MATCH_ARCH = 1000 };

unsigned platform_match(const struct platform *host, const struct platform *image)
{
	struct normal h = normalize(host), i = normalize(image);

	if (!streq(h.os, i.os))
		return 0;
	if (!*i.architecture)
		return MATCH_ANY;
	if (streq(h.architecture, i.architecture)) {
		if (!i.known || i.level > h.level)
			return 0;
		return MATCH_ARCH + (unsigned)i.level;
	}
	/* A 64-bit arm machine runs 32-bit programs, up to v8; x86-64 runs 386. */
	if (streq(h.architecture, "arm64") && streq(i.architecture, "arm") && i.known && i.level <= 8)
		return MATCH_OTHER_ARCH + (unsigned)i.level;
	if (streq(h.architecture, "amd64") && streq(i.architecture, "386"))
		return MATCH_OTHER_ARCH;
	return 0;
}

char *platform_text(struct arena *a, const struct platform *p)
{
	const char *os = str_is_empty(p->os) ? "unknown" : p->os;
	const char *arch = str_is_empty(p->architecture) ? "unknown" : p->architecture;

	return str_is_empty(p->variant) ? arena_printf(a, "%s/%s", os, arch) :
					  arena_printf(a, "%s/%s/%s", os, arch, p->variant);
}

int platform_parse(struct arena *a, const char *text, struct platform *out, struct err *e)
{
	struct str rest = str_of(text), os = str_cut(&rest, '/'), arch, variant = { 0 };

	if (!rest.p)
		return err_set(e, ERR_INVALID, "platform \"%s\" is not OS/ARCHITECTURE[/VARIANT]", text);
	arch = str_cut(&rest, '/');
	if (rest.p)
		variant = str_cut(&rest, '/');
	if (rest.p || os.len == 0 || arch.len == 0 || (variant.p && variant.len == 0))
		return err_set(e, ERR_INVALID, "platform \"%s\" is not OS/ARCHITECTURE[/VARIANT]", text);
	*out = (struct platform){ .os = str_dup(a, os), .architecture = str_dup(a, arch),
				  .variant = variant.p ? str_dup(a, variant) : NULL };
	return 0;
}
