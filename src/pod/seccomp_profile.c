#include "pod/seccomp_profile.h"

#include <stdio.h>

static const struct json_field arg_fields[] = {
	{ "index", JSON_U32, offsetof(struct oci_syscall_arg, index), JSON_REQUIRED },
	{ "value", JSON_U64, offsetof(struct oci_syscall_arg, value), JSON_REQUIRED },
	{ "valueTwo", JSON_U64, offsetof(struct oci_syscall_arg, value_two), JSON_OPTIONAL },
	{ "op", JSON_STR, offsetof(struct oci_syscall_arg, op), JSON_REQUIRED },
	{ 0 },
};

static const struct json_field condition_fields[] = {
	{ "caps", JSON_STRV, offsetof(struct seccomp_condition, caps), JSON_OPTIONAL },
	{ "arches", JSON_STRV, offsetof(struct seccomp_condition, arches), JSON_OPTIONAL },
	{ "minKernel", JSON_STR, offsetof(struct seccomp_condition, min_kernel), JSON_OPTIONAL },
	{ 0 },
};

#define CONDITION(key, member)                                                      \
	{ key, JSON_OBJ, offsetof(struct seccomp_rule, member), JSON_OPTIONAL,      \
	  condition_fields, sizeof(struct seccomp_condition) }

static const struct json_field rule_fields[] = {
	{ "name", JSON_STR, offsetof(struct seccomp_rule, name), JSON_OPTIONAL },
	{ "names", JSON_STRV, offsetof(struct seccomp_rule, names), JSON_OPTIONAL },
	{ "action", JSON_STR, offsetof(struct seccomp_rule, action), JSON_REQUIRED },
	{ "errnoRet", JSON_OPT_U32, offsetof(struct seccomp_rule, errno_ret), JSON_OPTIONAL },
	{ "args", JSON_OBJV, offsetof(struct seccomp_rule, args), JSON_OPTIONAL, arg_fields,
	  sizeof(struct oci_syscall_arg) },
	CONDITION("includes", includes),
	CONDITION("excludes", excludes),
	{ 0 },
};

static const struct json_field arch_fields[] = {
	{ "architecture", JSON_STR, offsetof(struct seccomp_arch, architecture), JSON_REQUIRED },
	{ "subArchitectures", JSON_STRV, offsetof(struct seccomp_arch, sub_architectures), JSON_OPTIONAL },
	{ 0 },
};

static const struct json_field profile_fields[] = {
	{ "defaultAction", JSON_STR, offsetof(struct seccomp_profile, default_action), JSON_REQUIRED },
	{ "defaultErrnoRet", JSON_OPT_U32, offsetof(struct seccomp_profile, default_errno_ret), JSON_OPTIONAL },
	{ "architectures", JSON_STRV, offsetof(struct seccomp_profile, architectures), JSON_OPTIONAL },
	{ "archMap", JSON_OBJV, offsetof(struct seccomp_profile, arch_map), JSON_OPTIONAL, arch_fields,
	  sizeof(struct seccomp_arch) },
	{ "flags", JSON_STRV, offsetof(struct seccomp_profile, flags), JSON_OPTIONAL },
	{ "listenerPath", JSON_STR, offsetof(struct seccomp_profile, listener_path), JSON_OPTIONAL },
	{ "listenerMetadata", JSON_STR, offsetof(struct seccomp_profile, listener_metadata), JSON_OPTIONAL },
	{ "syscalls", JSON_OBJV, offsetof(struct seccomp_profile, rules), JSON_OPTIONAL, rule_fields,
	  sizeof(struct seccomp_rule) },
	{ 0 },
};

/* Go's name of an architecture, seccomp's, and those that its kernel runs besides. */
static const struct {
	const char *go;
	char *arches[4];
} arch_table[] = {
	{ "amd64", { "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32" } },
	{ "386", { "SCMP_ARCH_X86" } },
	{ "arm64", { "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM" } },
	{ "arm", { "SCMP_ARCH_ARM" } },
	{ "ppc64le", { "SCMP_ARCH_PPC64LE" } },
	{ "s390x", { "SCMP_ARCH_S390X", "SCMP_ARCH_S390" } },
	{ "riscv64", { "SCMP_ARCH_RISCV64" } },
	{ "loong64", { "SCMP_ARCH_LOONGARCH64" } },
	{ "mips64le", { "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64N32" } },
};

static const char *native_arch(void)
{
#if defined(__x86_64__)
	return "amd64";
#elif defined(__i386__)
	return "386";
#elif defined(__aarch64__)
	return "arm64";
#elif defined(__arm__)
	return "arm";
#elif defined(__powerpc64__)
	return "ppc64le";
#elif defined(__s390x__)
	return "s390x";
#elif defined(__riscv)
	return "riscv64";
#elif defined(__loongarch64)
	return "loong64";
#else
	return "mips64le";
#endif
}

static char *const *arches_of(const char *go)
{
	for (size_t i = 0; i < ARRAY_SIZE(arch_table); i++) {
		if (streq(arch_table[i].go, go))
			return arch_table[i].arches;
	}
	return NULL;
}

static const char *const actions[] = {
	"SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP", "SCMP_ACT_ERRNO",
	"SCMP_ACT_TRACE", "SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY",
};
static const char *const operators[] = {
	"SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT",
	"SCMP_CMP_MASKED_EQ",
};

static bool is_one_of(const char *const *list, size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++) {
		if (streq(list[i], text))
			return true;
	}
	return false;
}

enum { SYSCALL_ARGS = 6 };

static int rule_check(const struct seccomp_rule *r, size_t i, struct err *e)
{
	if (!r->name && !r->names)
		return err_set(e, ERR_INVALID, "seccomp profile: syscalls[%zu] names no system call", i);
	if (r->name && r->names)
		return err_set(e, ERR_INVALID, "seccomp profile: syscalls[%zu] has both name and names", i);
	if (!is_one_of(actions, ARRAY_SIZE(actions), r->action))
		return err_set(e, ERR_INVALID, "seccomp profile: syscalls[%zu].action: unknown action \"%s\"", i,
			       r->action);
	OCI_EACH(oci_syscall_arg, arg, r->args) {
		if (arg->index >= SYSCALL_ARGS)
			return err_set(e, ERR_INVALID,
				       "seccomp profile: syscalls[%zu].args.index is %u, the last is 5", i,
				       arg->index);
		if (!is_one_of(operators, ARRAY_SIZE(operators), arg->op))
			return err_set(e, ERR_INVALID, "seccomp profile: syscalls[%zu].args.op: unknown \"%s\"",
				       i, arg->op);
	}
	return 0;
}

int seccomp_profile_parse(struct arena *a, struct str text, struct seccomp_profile *out, struct err *e)
{
	struct seccomp_profile p = { 0 };
	size_t i = 0;

	if (text.len > SECCOMP_PROFILE_MAX)
		return err_set(e, ERR_INVALID, "seccomp profile: more than %d bytes", SECCOMP_PROFILE_MAX);
	if (json_load(a, text, profile_fields, 0, &p, e) < 0)
		return err_in(e, "seccomp profile");
	if (!is_one_of(actions, ARRAY_SIZE(actions), p.default_action))
		return err_set(e, ERR_INVALID, "seccomp profile: defaultAction: unknown action \"%s\"",
			       p.default_action);
	if (p.architectures && p.arch_map.count > 0)
		return err_set(e, ERR_INVALID, "seccomp profile: has both architectures and archMap");
	OCI_EACH(seccomp_rule, r, p.rules) {
		if (rule_check(r, i++, e) < 0)
			return -1;
	}
	*out = p;
	return 0;
}

/* "4.8", "5.10-rc1": the first two numbers. */
static int kernel_at_least(const struct seccomp_target *t, const char *text, bool *out, struct err *e)
{
	unsigned major = 0, minor = 0;

	if (sscanf(text, "%5u.%5u", &major, &minor) != 2)
		return err_set(e, ERR_INVALID, "seccomp profile: minKernel: \"%s\" is no kernel version", text);
	*out = t->kernel_major > major || (t->kernel_major == major && t->kernel_minor >= minor);
	return 0;
}

static int includes_hold(const struct seccomp_condition *c, const struct seccomp_target *t, bool *out,
			 struct err *e)
{
	*out = true;
	if (!c)
		return 0;
	for (char **cap = c->caps; cap && *cap; cap++) {
		if (!strv_has(t->caps, *cap))
			*out = false;
	}
	if (c->arches && c->arches[0] && !strv_has(c->arches, t->arch))
		*out = false;
	if (!str_is_empty(c->min_kernel)) {
		bool recent;

		if (kernel_at_least(t, c->min_kernel, &recent, e) < 0)
			return -1;
		*out = *out && recent;
	}
	return 0;
}

static int excludes_hold(const struct seccomp_condition *c, const struct seccomp_target *t, bool *out,
			 struct err *e)
{
	*out = false;
	if (!c)
		return 0;
	for (char **cap = c->caps; cap && *cap; cap++) {
		if (strv_has(t->caps, *cap))
			*out = true;
	}
	if (c->arches && strv_has(c->arches, t->arch))
		*out = true;
	if (!str_is_empty(c->min_kernel)) {
		bool recent;

		if (kernel_at_least(t, c->min_kernel, &recent, e) < 0)
			return -1;
		*out = *out || recent;
	}
	return 0;
}

static char **rule_names(struct arena *a, const struct seccomp_rule *r)
{
	char **names;

	if (r->names)
		return r->names;
	names = arena_newn0(a, char *, 2);
	names[0] = r->name;
	return names;
}

static char **architectures(struct arena *a, const struct seccomp_profile *p, const struct seccomp_target *t)
{
	char *const *native = arches_of(t->arch);
	char **out = NULL;

	if (p->architectures)
		return p->architectures;
	OCI_EACH(seccomp_arch, arch, p->arch_map) {
		if (!native || !streq(arch->architecture, native[0]))
			continue;
		out = strv_append(a, out, arch->architecture);
		for (char **sub = arch->sub_architectures; sub && *sub; sub++)
			out = strv_append(a, out, *sub);
		return out;
	}
	return native ? strv_dup(a, native) : NULL;
}

int seccomp_profile_resolve(struct arena *a, const struct seccomp_profile *p, const struct seccomp_target *target,
			    struct oci_seccomp *out, struct err *e)
{
	struct seccomp_target t = *target;
	struct oci_syscall_rule *rules = arena_newn0(a, struct oci_syscall_rule, p->rules.count + 1);
	size_t n = 0;

	if (!t.arch)
		t.arch = native_arch();
	OCI_EACH(seccomp_rule, r, p->rules) {
		bool included, excluded;

		if (includes_hold(r->includes, &t, &included, e) < 0 ||
		    excludes_hold(r->excludes, &t, &excluded, e) < 0)
			return -1;
		if (!included || excluded)
			continue;
		rules[n++] = (struct oci_syscall_rule){
			.names = rule_names(a, r),
			.action = r->action,
			.errno_ret = r->errno_ret,
			.args = r->args,
		};
	}
	*out = (struct oci_seccomp){
		.default_action = p->default_action,
		.default_errno_ret = p->default_errno_ret,
		.architectures = architectures(a, p, &t),
		.flags = p->flags,
		.listener_path = p->listener_path,
		.listener_metadata = p->listener_metadata,
		.syscalls = { rules, n },
	};
	return 0;
}
