#include "test.h"

#include "spec/oci_config.h"
#include "spec/oci_state.h"

static const char everything[] =
	"{\"ociVersion\":\"1.3.0\",\"process\":{\"terminal\":true,\"consoleSize\":{\"height\":24,\"width\":80},"
	"\"user\":{\"uid\":1,\"gid\":2,\"umask\":18,\"additionalGids\":[5,6]},\"args\":[\"/bin/true\",\"\"],"
	"\"env\":[\"PATH=/bin\"],\"cwd\":\"/\",\"capabilities\":{\"bounding\":[\"CAP_KILL\"],\"ambient\":[\"CAP_KILL\"]},"
	"\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"hard\":18446744073709551615,\"soft\":0}],\"noNewPrivileges\":true,"
	"\"apparmorProfile\":\"p\",\"oomScoreAdj\":0,\"scheduler\":{\"policy\":\"SCHED_BATCH\",\"nice\":3},"
	"\"selinuxLabel\":\"l\",\"ioPriority\":{\"class\":\"IOPRIO_CLASS_BE\",\"priority\":0},"
	"\"execCPUAffinity\":{\"initial\":\"0\",\"final\":\"1\"}},\"root\":{\"path\":\"rootfs\",\"readonly\":true},"
	"\"hostname\":\"h\",\"domainname\":\"d\",\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\","
	"\"source\":\"proc\",\"options\":[\"nosuid\"],\"uidMappings\":[{\"containerID\":0,\"hostID\":7,\"size\":1}]}],"
	"\"hooks\":{\"prestart\":[{\"path\":\"/h\",\"args\":[\"h\"],\"env\":[\"A=b\"],\"timeout\":5}]},"
	"\"annotations\":{\"a\":\"\"},\"linux\":{\"timeOffsets\":{\"monotonic\":{\"secs\":-3,\"nanosecs\":9}},"
	"\"sysctl\":{\"net.core.somaxconn\":\"9\"},\"resources\":{\"unified\":{\"memory.high\":\"max\"},"
	"\"devices\":[{\"allow\":false},{\"allow\":true,\"type\":\"c\",\"major\":1,\"minor\":-1,\"access\":\"rwm\"}],"
	"\"memory\":{\"limit\":0,\"swap\":-1,\"swappiness\":0,\"disableOOMKiller\":false},"
	"\"cpu\":{\"shares\":2,\"quota\":-1,\"period\":100000,\"cpus\":\"0-1\",\"idle\":1},\"pids\":{\"limit\":0},"
	"\"blockIO\":{\"weight\":10,\"throttleReadBpsDevice\":[{\"major\":8,\"minor\":0,\"rate\":600}]},"
	"\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":0}],\"network\":{\"classID\":1,\"priorities\":"
	"[{\"name\":\"lo\",\"priority\":0}]},\"rdma\":{\"mlx5_1\":{\"hcaHandles\":3}}},\"cgroupsPath\":\"/a\","
	"\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"network\",\"path\":\"/n\"},{\"type\":\"uts\"},{\"type\":\"time\"}],"
	"\"devices\":[{\"path\":\"/dev/x\",\"type\":\"c\",\"major\":0,\"minor\":0,\"fileMode\":438,\"uid\":0}],"
	"\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":38,\"architectures\":[\"SCMP_ARCH_X86_64\"],"
	"\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,\"value\":0,"
	"\"op\":\"SCMP_CMP_EQ\"}]}]},\"rootfsPropagation\":\"rslave\",\"maskedPaths\":[\"/proc/kcore\"],"
	"\"readonlyPaths\":[\"/proc/sys\"],\"personality\":{\"domain\":\"LINUX32\"}}}";

TEST(every_field_is_written_as_it_was_read)
{
	auto_arena a = { 0 };
	auto_buf b = BUF(100000);
	struct oci_config c;
	struct err e;

	assert_ok(oci_config_read(&a, STR(everything), &c, &e), e);
	assert_int_equal(c.process->user.uid, 1);
	assert_int_equal(c.on_linux->resources->devices.count, 2);
	assert_ok(oci_config_validate(&c, &e), e);
	assert_ok(oci_config_write(&b, &c, &e), e);
	assert_string_equal(buf_text(&b), everything);
}

TEST(a_wrong_value_names_its_field)
{
	auto_arena a = { 0 };
	struct oci_config c;
	struct err e;

	assert_err(oci_config_read(&a, STR("{\"ociVersion\":\"1.0.2\",\"linux\":{\"resources\":{\"memory\":"
					    "{\"limit\":\"1Gi\"}}}}"), &c, &e),
		   e, ERR_INVALID, "linux.resources.memory.limit: line 1");
}

static int validate(const char *process, const char *rest, struct err *e)
{
	auto_arena a = { 0 };
	struct oci_config c;
	char *text = arena_printf(&a, "{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"r\"},\"process\":{%s}%s}",
				  process, rest);

	if (oci_config_read(&a, str_of(text), &c, e) < 0)
		return -1;
	return oci_config_validate(&c, e);
}
#define PROCESS "\"args\":[\"x\"],\"cwd\":\"/\""

#define MAP(inside, outside, size) "[{\"containerID\":" #inside ",\"hostID\":" #outside ",\"size\":" #size "}]"
#define DEVICES(all) ",\"linux\":{\"namespaces\":[{\"type\":\"network\"}],\"netDevices\":{" all "}}"
#define USER(uids, gids) ",\"linux\":{\"namespaces\":[{\"type\":\"user\"}],\"uidMappings\":" uids ",\"gidMappings\":" gids "}"

TEST(validation_names_what_is_wrong)
{
	static const struct { const char *process, *rest, *text; } bad[] = {
		{ "\"cwd\":\"/\"", "", "process.args" },
		{ "\"args\":[\"x\"],\"cwd\":\"tmp\"", "", "process.cwd" },
		{ PROCESS ",\"oomScoreAdj\":1001", "", "oomScoreAdj" },
		{ PROCESS ",\"env\":[\"=x\"]", "", "process.env" },
		{ PROCESS ",\"rlimits\":[{\"type\":\"RLIMIT_CPU\",\"hard\":1,\"soft\":2}]", "", "RLIMIT_CPU" },
		{ PROCESS, ",\"hostname\":\"h\"", "hostname" },
		{ PROCESS, ",\"linux\":{\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"pid\"}]}", "twice" },
		{ PROCESS, ",\"linux\":{\"namespaces\":[{\"type\":\"moon\"}]}", "moon" },
		{ PROCESS, ",\"linux\":{\"sysctl\":{\"kernel.panic\":\"1\"}}", "kernel.panic" },
		{ PROCESS, ",\"linux\":{\"sysctl\":{\"net.core.somaxconn\":\"1\"}}", "network namespace" },
		{ PROCESS, ",\"linux\":{\"sysctl\":{\"net..core\":\"1\"},\"namespaces\":[{\"type\":\"network\"}]}",
		  "not a sysctl" },
		{ PROCESS, ",\"linux\":{\"timeOffsets\":{}}", "time namespace" },
		{ PROCESS, USER("[]", "[]"), "linux.uidMappings: the container's id 0" },
		{ PROCESS, USER(MAP(0, 7, 1), MAP(1, 7, 1)), "linux.gidMappings: the container's id 0" },
		{ PROCESS, USER(MAP(0, 7, 0), MAP(0, 7, 1)), "linux.uidMappings[0].size" },
		{ PROCESS, USER(MAP(0, 4294967290, 10), MAP(0, 7, 1)), "linux.uidMappings[0].size" },
		{ PROCESS, USER("[{\"containerID\":0,\"hostID\":7,\"size\":5},{\"containerID\":4,\"hostID\":90,\"size\":5}]",
				MAP(0, 7, 1)), "linux.uidMappings[1] overlaps linux.uidMappings[0]" },
		{ PROCESS, ",\"linux\":{\"uidMappings\":" MAP(0, 7, 1) "}", "no user namespace" },
		{ PROCESS, ",\"mounts\":[{\"destination\":\"/m\",\"uidMappings\":" MAP(0, 7, 0) "}]", "mounts: /m: uidMappings[0].size" },
		{ PROCESS, ",\"linux\":{\"netDevices\":{\"e\":{}}}", "linux.netDevices: needs" },
		{ PROCESS, DEVICES("\"e/0\":{}"), "linux.netDevices: not the name of an interface: \"e/0\"" },
		{ PROCESS, DEVICES("\"e\":{\"name\":\"a name\"}"), "\"a name\"" },
		{ PROCESS, DEVICES("\"e\":{\"name\":\"f\"},\"f\":{}"), "two interfaces of this name" },
		{ PROCESS, ",\"linux\":{\"maskedPaths\":[\"proc\"]}", "maskedPaths" },
		{ PROCESS, ",\"linux\":{\"rootfsPropagation\":\"up\"}", "rootfsPropagation" },
		{ PROCESS, ",\"hooks\":{\"poststop\":[{\"path\":\"x\"}]}", "hooks.path" },
	};
	struct err e;

	assert_ok(validate(PROCESS, "", &e), e);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_err(validate(bad[i].process, bad[i].rest, &e), e, ERR_INVALID, bad[i].text);
}

TEST(the_lowest_version_is_that_of_the_newest_field)
{
	auto_arena a = { 0 };
	struct oci_config c;
	struct err e;

	assert_ok(oci_config_read(&a, STR(everything), &c, &e), e);
	assert_string_equal(oci_config_lowest_version(&c), "1.2.1");
	c.process->exec_cpu_affinity = NULL;
	assert_string_equal(oci_config_lowest_version(&c), "1.1.0");
	c = (struct oci_config){ 0 };
	assert_string_equal(oci_config_lowest_version(&c), "1.0.2");
}

TEST(a_state_is_written_as_it_was_read)
{
	static const char text[] = "{\"ociVersion\":\"1.3.0\",\"id\":\"x\",\"status\":\"created\",\"pid\":7,"
				   "\"bundle\":\"/b\",\"annotations\":{\"k\":\"v\"}}";
	auto_arena a = { 0 };
	auto_buf b = BUF(1000);
	struct oci_state s;
	struct err e;

	assert_ok(oci_state_read(&a, STR(text), &s, &e), e);
	assert_ok(oci_state_write(&b, &s, &e), e);
	assert_string_equal(buf_text(&b), text);
	assert_string_equal(oci_status_name(OCI_PAUSED), "paused");
}

TEST(an_error_of_the_documents_sense_gets_line_and_column)
{
	static const char text[] = "{\n \"process\": { \"scheduler\":\n  { \"nice\": 99 } },\n \"linux\": { \"namespaces\": [\n"
				   "  { \"type\": \"pid\" },\n  { \"type\": \"thing\" } ] } }";
	static const struct {
		const char *msg, *placed;
	} errors[] = {
		{ "config.json: process.scheduler.nice: 99", "config.json: line 3 column 13: process.scheduler.nice: 99" },
		{ "process.scheduler: bad", "config.json: line 3 column 3: process.scheduler: bad" },
		{ "linux.namespaces.type: no: \"thing\"", "config.json: line 6 column 13: linux.namespaces.type: no: \"thing\"" },
		{ "linux.namespaces: there twice", "config.json: line 4 column 27: linux.namespaces: there twice" },
		{ "nothing of the document", "nothing of the document" },
		{ "", "" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		auto_arena a = { 0 };
		struct err e;

		(void)err_set(&e, ERR_INVALID, "%s", errors[i].msg);
		oci_config_place(&a, STR(text), &e);
		assert_string_equal(e.msg, errors[i].placed);
		assert_int_equal(e.kind, ERR_INVALID);
	}
}
