/* Builds filters with libseccomp from a simple text on stdin, for a comparison with ours. One answer line per question:
 *
 *   names                        then names, one a line, then "end"
 *     answer per name: NAME x86_64 x32 x86 aarch64 arm   (numbers; -1 where libseccomp knows no such call at all, another
 *     negative one where this architecture has none of its own: -100 - SUBCALL for x86's socketcall, -200 - SUBCALL for its ipc)
 *   filter NATIVE OPTIMIZE DEFAULT
 *   arch NAME                    a further architecture
 *   rule ACTION NAME [INDEX OP A B]...
 *   end
 *     answer: "ok HEX" (the program) or "no filter ERRNO"; before it "rule AT ERRNO" for each rule that was not taken.
 *     "no end 0" when libseccomp was at it for a fifth of a second: there are rules at which it never ends.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct { const char *name; uint32_t token; } arches[] = {
    { "x86_64", SCMP_ARCH_X86_64 }, { "x32", SCMP_ARCH_X32 },         { "x86", SCMP_ARCH_X86 },
    { "aarch64", SCMP_ARCH_AARCH64 }, { "arm", SCMP_ARCH_ARM },
};
static const char *const operators[] = { "ne", "lt", "le", "eq", "ge", "gt", "masked" };
static const enum scmp_compare compares[] = { SCMP_CMP_NE, SCMP_CMP_LT, SCMP_CMP_LE, SCMP_CMP_EQ,
                                              SCMP_CMP_GE, SCMP_CMP_GT, SCMP_CMP_MASKED_EQ };

static uint32_t token(const char *name)
{
    for (size_t i = 0; i < sizeof arches / sizeof *arches; i++)
        if (!strcmp(arches[i].name, name))
            return arches[i].token;
    fprintf(stderr, "no architecture %s\n", name);
    exit(2);
}

static void names(char *line, size_t size)
{
    while (fgets(line, size, stdin) && strcmp(line, "end\n")) {
        line[strcspn(line, "\n")] = 0;
        fputs(line, stdout);
        for (size_t i = 0; i < sizeof arches / sizeof *arches; i++) {
            int number = seccomp_syscall_resolve_name_arch(arches[i].token, line);
            printf(" %d", number);
        }
        putchar('\n');
    }
}

static int export(scmp_filter_ctx context)
{
    FILE *file = tmpfile();
    int failed = file ? seccomp_export_bpf(context, fileno(file)) : -errno;
    if (!failed) {
        int byte;
        rewind(file);
        fputs("ok ", stdout);
        while ((byte = fgetc(file)) != EOF)
            printf("%02x", byte);
        putchar('\n');
    }
    if (file)
        fclose(file);
    return failed;
}

static int rule(scmp_filter_ctx context, char *words)
{
    struct scmp_arg_cmp args[6];
    unsigned count = 0;
    uint32_t action = strtoul(strtok(words, " "), NULL, 16);
    int number = seccomp_syscall_resolve_name(strtok(NULL, " "));
    char *word;
    if (number == __NR_SCMP_ERROR)
        return -ENOSYS;
    while ((word = strtok(NULL, " ")) && count < 6) {
        size_t at = 0;
        args[count].arg = strtoul(word, NULL, 10);
        word = strtok(NULL, " ");
        while (at < 6 && strcmp(operators[at], word))
            at++;
        args[count].op = compares[at];
        args[count].datum_a = strtoull(strtok(NULL, " "), NULL, 16);
        args[count].datum_b = strtoull(strtok(NULL, " "), NULL, 16);
        count++;
    }
    return seccomp_rule_add_array(context, action, number, count, args);
}

static void filter(char *line, size_t size)
{
    char native[32];
    unsigned optimize, action, at = 0;
    int failed = 0;
    if (sscanf(line, "filter %31s %u %x", native, &optimize, &action) != 3)
        exit(2);
    scmp_filter_ctx context = seccomp_init(action);
    if (!context)
        failed = -EINVAL;
    if (!failed && token(native) != seccomp_arch_native()) {
        failed = seccomp_arch_add(context, token(native));
        if (!failed)
            failed = seccomp_arch_remove(context, SCMP_ARCH_NATIVE);
    }
    if (!failed)
        failed = seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, optimize);
    while (fgets(line, size, stdin) && strcmp(line, "end\n")) {
        line[strcspn(line, "\n")] = 0;
        if (failed)
            continue;
        if (!strncmp(line, "arch ", 5)) {
            failed = seccomp_arch_add(context, token(line + 5));
        } else {
            int refused = rule(context, line + 5);
            if (refused)
                printf("rule %u %d\n", at, -refused);
            at++;
        }
    }
    if (!failed)
        failed = export(context);
    if (failed)
        printf("no filter %d\n", -failed);
    if (context)
        seccomp_release(context);
}

/* In a child of its own, whose end is certain. */
static void answer(char *question, char *line, size_t size)
{
    const struct itimerval limit = { { 0, 0 }, { 0, 200000 } };
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        stdin = fmemopen(question, strlen(question), "r");
        setitimer(ITIMER_VIRTUAL, &limit, NULL);
        if (!stdin || !fgets(line, size, stdin))
            _exit(2);
        filter(line, size);
        fflush(stdout);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        exit(2);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGVTALRM)
        puts("no end 0");
    else if (status)
        exit(2);
}

int main(void)
{
    static char line[8192], question[1 << 20];
    size_t length = 0;
    while (fgets(line, sizeof line, stdin)) {
        if (!length && !strcmp(line, "names\n")) {
            names(line, sizeof line);
            continue;
        }
        if (length + strlen(line) >= sizeof question)
            exit(2);
        strcpy(question + length, line);
        length += strlen(line);
        if (!strcmp(line, "end\n")) {
            answer(question, line, sizeof line);
            length = 0;
        }
    }
    return 0;
}
