// Programs of any system, and the test signature that every scanner knows. `kind` is "pdf", "jpeg", "png", "tiff" or
// "" and comes from the file's first bytes.

rule eicar_test_file
{
    meta:
        code = "MALWARE_FOUND"
    strings:
        $eicar = { 58 35 4F 21 50 25 40 41 50 5B 34 5C 50 5A 58 35 34 28 50 5E 29 37 43 43 29 37 7D 24 45 49 43 41 52 }
    condition:
        $eicar
}

rule windows_program
{
    meta:
        code = "ACTIVE_CONTENT"
    strings:
        $mz = "MZ"
    condition:
        // By chance "MZ" stands 400 times in 25 MB of compressed pixels; a PE header behind it does not.
        for any i in (1..#mz) : (
            @mz[i] + 64 < filesize
            and uint32(@mz[i] + 60) < 0x10000
            and uint32(@mz[i] + uint32(@mz[i] + 60)) == 0x00004550
        )
}

rule elf_program
{
    meta:
        code = "ACTIVE_CONTENT"
    strings:
        $elf = { 7F 45 4C 46 (01 | 02) (01 | 02) 01 }
    condition:
        $elf
}

rule program_at_start
{
    meta:
        code = "ACTIVE_CONTENT"
    condition:
        uint16be(0) == 0x2321                                  // #! script
        or uint32be(0) == 0xFEEDFACE or uint32be(0) == 0xFEEDFACF
        or uint32(0) == 0xFEEDFACE or uint32(0) == 0xFEEDFACF  // Mach-O
        or uint32be(0) == 0xCAFEBABE                           // Java class, universal Mach-O
}

rule windows_shortcut
{
    meta:
        code = "ACTIVE_CONTENT"
    strings:
        $lnk = { 4C 00 00 00 01 14 02 00 00 00 00 00 C0 00 00 00 00 00 00 46 }
    condition:
        $lnk
}

rule marks_repeated_to_blind_the_rules
{
    meta:
        code = "FILE_TOO_COMPLEX"
    strings:
        $mz = "MZ"
        $end = { 50 4B 05 06 }
    condition:
        // The engine looks at a million matches of a pattern; no honest file has a tenth of that.
        #mz > 100000 or #end > 1000
}
